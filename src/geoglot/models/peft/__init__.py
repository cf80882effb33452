"""Parameter-efficient tuning: small trained parts on frozen towers."""
