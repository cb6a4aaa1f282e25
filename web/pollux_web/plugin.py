"""What the web room adds to Pollux through the plugin manager: the `serve` command."""
