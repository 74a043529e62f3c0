"""Making a bundle: importing the released files, or random weights of true size."""
