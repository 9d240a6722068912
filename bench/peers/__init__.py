"""Other systems, measured beside ours: installed in a folder of their own, talked to by one small protocol."""
