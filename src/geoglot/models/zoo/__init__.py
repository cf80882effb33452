"""Models by name: cards, the local store, downloads, bundles."""
