"""What other servers' clients and the cloud platforms speak, one protocol a file or folder, all on the one pipeline."""
