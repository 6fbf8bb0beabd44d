"""Tune an encoder by what users take together: texts and a matrix of users and items in, a model folder out."""
