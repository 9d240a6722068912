"""The port of object stores over what a manifest can name: S3, the embedded store, folders of a machine."""
