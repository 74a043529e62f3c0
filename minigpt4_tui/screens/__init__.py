"""The app's screens; all but the conversation are imported when they are first shown."""
