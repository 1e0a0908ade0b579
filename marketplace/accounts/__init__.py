"""Users, organisations, memberships, invitations and API keys."""
