"""The Workflows: graphs in Hera that call the packages' command lines, each rendered to the YAML file beside it."""
