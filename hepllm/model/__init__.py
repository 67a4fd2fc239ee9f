"""The language model, the numeric fusion adapter, and the classifier made of both."""

from hepllm.logs import silence_libraries

# Before a module of this package imports bitsandbytes, which talks while it is imported; also in
# the workers that score and in a program that uses the Python interface.
silence_libraries()
