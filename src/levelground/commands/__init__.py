"""Commands: one module each, with its typed options and one public function."""
