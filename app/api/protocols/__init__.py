"""What other servers' clients and the cloud platforms speak, one protocol a file, all on the one pipeline."""
