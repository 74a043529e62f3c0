"""The list of conversations beside the chat: what its rows show, the filter, renaming in place."""
