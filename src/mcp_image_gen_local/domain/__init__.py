"""What every room agrees on: requests, pictures, jobs, engines and errors; no I/O."""
