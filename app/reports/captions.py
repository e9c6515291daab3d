"""What the figures of a run or an evaluation show, for people."""

# By the name of the figure's file, in the order of the page.
CAPTIONS = {
    "learning_curves": "Loss and score after each epoch. If the validation loss rises while the "
    "training loss falls, the model overfits. If both scores still rise at the end, train longer.",
    "augmented_images": "Some training images, and how training steps see them. A change that "
    "would give an image another target does harm: set augmentation.* lower.",
    "training_sizes": "Score by number of training samples. If the curves are still apart and "
    "rising on the right, more data will help. If they meet, a larger model may help.",
    "confusion_matrix": "Samples by true class (rows) and predicted class (columns). Counts "
    "off the diagonal are mistakes.",
    "mistakes": "The mistakes that the model is most confident about, or the largest errors of "
    "values. Some may be wrong targets; the others show what the model has yet to learn.",
    "reliability_diagram": "Accuracy by confidence. Where a point and all of its 95% interval lie "
    "below the diagonal, the model is overconfident. The histogram counts the predictions.",
    "roc": "True positive rate by false positive rate as the threshold falls. The closer a curve "
    "is to the upper left corner, the better; AUC is the area under it.",
    "precision_recall": "Precision by recall as the threshold falls. The full point is the "
    "threshold that decides, and a hollow one that of 0.5 if it differs. AP, average precision, is "
    "the area under the curve; where a class is rare, it says more than ROC AUC.",
    "predicted_and_true": "Predicted values by true values. On the dashed line "
    "the prediction is exact.",
    "residuals": "Left: residuals by predicted value, which should have no pattern; the interval "
    "contains as many true values as the validation split promises. Right: errors by tenths of the "
    "samples, from the lowest predictions to the highest.",
    "column_importance": "How far the score falls if the values of a column are permuted among "
    "the test samples, with 95% intervals. Columns that say the same stand in for each other, so "
    "each of them seems less important than they are together.",
    "partial_dependence": "The mean prediction if a column had this value in all of at most 200 "
    "test samples. Where columns depend on each other, some of these samples never occur.",
    "features_projection": "Learned features of test samples on their first two principal "
    "components. Well separated colors show features that tell the targets apart.",
}
_OF_GROWING_IMAGES = (
    "Where the background is gray, images were smaller (progressive_resizing), in both scores."
)


def captions_of_run(has_growing_images: bool) -> dict[str, str]:
    """Return the captions of a run by the name of the figure's file."""
    curves = CAPTIONS["learning_curves"]
    return {
        **CAPTIONS,
        "learning_curves": f"{curves} {_OF_GROWING_IMAGES}" if has_growing_images else curves,
    }
