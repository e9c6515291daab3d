"""Names of the data sets that come with scikit-learn and Keras. It imports nothing heavy."""

SOURCE_NAMES = ("digits8x8", "iris", "wine", "breast_cancer", "diabetes", "linnerud", "mnist")
