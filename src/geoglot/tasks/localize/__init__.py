"""Semantic localization: where in a scene does a sentence hold?"""
