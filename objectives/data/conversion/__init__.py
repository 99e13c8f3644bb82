"""Values as arrays that models compute with: of objects, of numbers, of labels."""
