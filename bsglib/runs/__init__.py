"""From a parameter file to stored numbers: training, measures, sweeps, timings."""
