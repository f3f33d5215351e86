"""What every command needs around its computation: options, files, signals, devices, progress bars.

Nothing here is about texts or models, and only `distributed` imports torch at import time.
"""
