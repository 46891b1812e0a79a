"""What people look at: plots and reports, made from what runs left on disk."""
