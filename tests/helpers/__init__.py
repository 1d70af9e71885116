"""What tests of several files share and fixtures cannot hold."""
