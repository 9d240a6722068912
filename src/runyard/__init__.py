"""Runyard: deep learning as a service on machines of your own."""

__version__ = "0.1.0"
