"""Workflows: compositions whose state is kept in a store, so that they can wait for one another.

Nodes (`nodes`) are what a composition is made of. They are written down as frames in a store
(`store`, `stores`), whose rules are pure functions (`rules`). An engine (`engine`) starts what is
next; whoever settles the message of a node calls it. Nothing is imported here: every application
has pipelines, few have workflows.
"""
