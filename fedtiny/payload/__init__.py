"""What crosses between the server and a client, and the door it crosses by."""
