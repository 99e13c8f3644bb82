"""All that is measured on a machine with a GPU, in one run of `bench/gpu/run.sh`."""
