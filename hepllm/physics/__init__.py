"""Events, jets, substructure and simulation; arrays in, arrays out, no torch."""
