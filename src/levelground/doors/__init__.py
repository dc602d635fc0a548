"""One command = one module here = one public function taking one frozen configuration."""
