"""What things are: Arrow schemas, validated configuration and specs. No I/O on this floor."""
