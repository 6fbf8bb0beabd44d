"""Work on texts that needs no encoder, and tags, which join words with it."""
