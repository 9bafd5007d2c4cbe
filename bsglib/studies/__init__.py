"""The four studies, one per paper: parameters, design and claims."""
