"""How fast training is here, against the limits of this machine."""
