"""The commands of `virtrpcd`, one file each."""
