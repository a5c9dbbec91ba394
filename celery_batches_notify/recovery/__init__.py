"""What any worker heals."""
