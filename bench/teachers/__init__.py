"""Whether NVIDIA's builder takes a teacher's trunk."""
