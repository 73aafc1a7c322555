"""The documentation site: python -m sphinx -b html docs docs/_build

Pages are the Markdown files here, and what `pages.py` makes of the notebooks before they are read: the notebooks
themselves with their saved outputs (nothing is executed), an API reference, the glossary and the results.
"""
import os, re, sys, unicodedata
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import pages

project = 'kamig'
author = 'The kamig developers'
copyright = 'The kamig developers, Apache-2.0'
version = release = pages.version(HERE.parent)

extensions = ['myst_nb']
exclude_patterns = ['_short.md', '_templates', '_build', 'jupyter_execute', '**.ipynb_checkpoints']
nb_execution_mode = 'off'                    # the saved outputs are shown
nb_merge_streams = True
suppress_warnings = ['mystnb.unknown_mime_type']
myst_enable_extensions = ['dollarmath', 'deflist', 'attrs_inline']
myst_heading_anchors = 3
myst_dmath_double_inline = True
python_maximum_signature_line_length = 240
toc_object_entries_show_parents = 'hide'
add_module_names = False
pygments_style = 'a11y-high-contrast-light'

html_theme = 'sphinx_book_theme'
html_title = 'kamig'
html_static_path = ['_static']
templates_path = ['_templates']
html_css_files = ['kamig.css']
html_copy_source = html_show_sourcelink = False
html_math_renderer = 'mathml'
html_theme_options = dict(
    home_page_in_toc=True, show_navbar_depth=1, show_toc_level=2, collapse_navbar=True, navigation_with_keys=False,
    use_fullscreen_button=False, use_download_button=True, use_repository_button=False, use_issues_button=False,
    pygments_light_style='a11y-high-contrast-light', pygments_dark_style='a11y-high-contrast-dark')


STYLES = {'script': 'SCRIPT', 'double-struck': 'DOUBLE-STRUCK', 'fraktur': 'FRAKTUR', 'bold': 'BOLD'}

def styled(match)->str:
    "One letter in a style: browsers know no `mathvariant` but have the letters themselves"
    kind = unicodedata.name(match[3]).replace('LATIN ', '').replace(' LETTER', '')           # 'CAPITAL G', 'DIGIT ONE'
    for prefix in ('MATHEMATICAL ', ''):
        try: return f'<{match[1]}>{unicodedata.lookup(f"{prefix}{STYLES[match[2]]} {kind}")}</{match[1]}>'
        except KeyError: continue
    return match[0]

def show_math(display:str):
    "A visitor that writes a formula as MathML, which browsers draw themselves: no script, no network, any colours"
    def visit(self, node):
        formula = re.sub(rf'<(m[ion]) mathvariant="({"|".join(STYLES)})">(.)</m[ion]>', styled, convert(node.astext(), display=display))
        tag = 'div' if display == 'block' else 'span'
        self.body.append(f'<{tag} class="math">{formula}</{tag}>')
        raise SkipNode
    return visit

def to_pages(known:dict[str,str]):
    "A listener that leads the links of a guide, which are to files of the repository, to their pages"
    from_guides = {os.path.relpath(file, 'docs/guides'): os.path.relpath(page, 'guides') for file,page in known.items()}
    def listen(app, page, source):
        if page.startswith('guides/'): source[0] = pages.relinked(source[0], from_guides)
    return listen

def setup(app):
    app.add_html_math_renderer('mathml', inline_renderers=(show_math('inline'), None), block_renderers=(show_math('block'), None))
    app.connect('source-read', to_pages(pages.write(HERE.parent, HERE)))
