"""New names of settings that were renamed. They only serve error messages: no old name works."""

RENAMED = {
    "averaging": "optimizer.ema_momentum",
    "class_weights": "class_weight",
    "every": "optimizer.decay_epochs",
    "factor": "optimizer.decay_rate",
    "keep": "restore_best_weights",
    "passes": "repeat",
    "training_shares": "train_sizes",
    "validation": "validation_split",
    "optimizer.averaging": "optimizer.ema_momentum",
    "optimizer.every": "optimizer.decay_epochs",
    "optimizer.factor": "optimizer.decay_rate",
}
