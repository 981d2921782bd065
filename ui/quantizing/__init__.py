"""Parts of the page about weights in fewer bits."""
