"""Numbers that Chang & Pathak print, by batch size."""

VALIDATION = {32: 0.344, 256: 0.395}  # lowest loss; figure 6 and its paragraph
SCALED_VALIDATION = {32: 0.345, 256: 0.352}  # figure 24; the conclusion says .343 at 32
SECONDS_PER_EPOCH = {32: 12.4, 256: 7.7}  # figure 7
EPOCHS = {32: 158, 256: 958}  # to the lowest validation loss; figure 7
TOTAL_SECONDS = {32: 1915, 256: "almost 4 x 1915"}  # figure 7
PARALLEL_SECONDS_PER_EPOCH = {256: 3.97}  # over four devices; figure 8
PARALLEL_TOTAL_SECONDS = {256: 3700}  # about; the same
SCALED_TOTAL_SECONDS = {32: 3156, 256: 2197}  # figure 25
EPOCH_DISTANCE = {32: (0.15, 0.4), 256: (0.02, 0.04)}  # ranges; figure 12
UPDATE_NORM = {32: 3.3e-3, 256: 1.5e-3}  # medians; figure 13
SCALED_SHARPNESS = {32: (1.14, 1.14), 64: (4, 7), 128: (4, 7), 256: (4, 7)}  # figure 26
BEST_LR = {32: 0.01, 64: 0.08, 128: 0.08, 256: 0.08}  # figure 29
