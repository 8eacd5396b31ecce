"""Other libraries that run recurrent layers on a CPU, each given our weights. A file imports its library at the top."""
