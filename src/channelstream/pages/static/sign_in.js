/** Says so where the browser keeps no cookies: a sign-in would lead back to the empty form. */

document.getElementById("cookies").hidden = navigator.cookieEnabled;
