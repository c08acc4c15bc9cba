"""What embedding slides costs, against the loop that labs run today."""
