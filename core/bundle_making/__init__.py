"""Make a bundle: from the released files, or from random weights of true size."""
