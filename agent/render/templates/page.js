for (const article of document.querySelectorAll("article")) bindArticle(article);
