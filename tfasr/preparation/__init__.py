"""From a corpus to a folder of prepared data, and the page that describes it."""
