"""The language model, the numeric fusion adapter, and the classifier made of both."""
