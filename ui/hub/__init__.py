"""Models on this machine and on the hub: what is known of them, and what is done about them."""
