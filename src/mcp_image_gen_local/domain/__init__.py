"""What every room agrees on: requests, images, jobs, engines and errors; no I/O."""
