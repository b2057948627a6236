"""The recipe of the embedded demo model: every part trained from nothing on procedural scenes."""
