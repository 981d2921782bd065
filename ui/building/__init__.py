"""Parts of the build page: architecture and variant, data, tokenizer and length, the look at the data, the run with its samples."""
