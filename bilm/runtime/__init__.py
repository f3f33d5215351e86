"""What a program needs around its computation: options, files, signals, devices, progress bars.

Nothing here knows about texts or models, and only `distributed` imports torch when it is imported.
"""
