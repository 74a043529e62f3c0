"""Questions and descriptions made by rule from a photo's objects, checked against its captions."""
