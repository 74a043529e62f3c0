"""Images on their way in and onto the screen: attachments, clipboard, previews, graphics protocols."""
