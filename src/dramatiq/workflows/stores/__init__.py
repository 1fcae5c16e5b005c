"""Where workflows are kept; each module is imported by who has such a store."""
