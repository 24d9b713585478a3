"""The table of options: a module for each section, with name, type, default, allowed values and effect of its options."""
